"""Results to tables, figures, and one page that needs nothing beside it."""
