"""The REST API, and the server that carries it and the pages."""
