"""Labels from files and reports: what they say, what is true by all of them, who influenced it."""
