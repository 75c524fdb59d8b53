"""The watch: a version's first weeks in use, held to what its gates promised."""
