"""Validation: the model beside real servers and beside queueing theory.

Use `validate.validate` for the table of ratios, `live_replay.live_row` for one measured row, and `queueing_theory.markdown`
for the table of waits.
"""
