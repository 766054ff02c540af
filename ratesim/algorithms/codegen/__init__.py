"""Code generation: the functions of a rule written out into one decision function, without calls.

`template.render` fills a template with the lines of a rule; `inline` and `return_to_assignment` make those lines.
"""
