"""Values, protocols and errors that every other package builds on."""
