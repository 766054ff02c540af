"""How results show themselves in a notebook: short HTML, and figures on matplotlib axes.

It knows numbers and names, and nothing of simulations. matplotlib is imported when the first figure is drawn.
"""
