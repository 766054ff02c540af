"""The page about what each storage needs and costs."""
