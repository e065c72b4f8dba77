"""Models of what pictures look like: they draw, complete, mend and compress."""
