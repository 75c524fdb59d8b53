"""Every way in: settings, assembly, HTTP, pages, metrics, command line, demo."""
