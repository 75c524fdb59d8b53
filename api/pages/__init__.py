"""Pages: view models, templates and the assets that they need."""
