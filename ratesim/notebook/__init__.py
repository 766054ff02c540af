"""Notebooks: which there are, executed with parameters as data, and rendered to one page."""

from ratesim.notebook.executing import NotebookFailed, execute
from ratesim.notebook.making import Made, make
from ratesim.notebook.place import OutputError, check_out, workshop
from ratesim.notebook.rendering import render
from ratesim.notebook.source import NotebookError, Parameter, Value, find, given, notebooks, parameters_of, questions

__all__ = [  # noqa: RUF022 - in the order in which they are needed
    "notebooks",
    "questions",
    "find",
    "Parameter",
    "Value",
    "parameters_of",
    "given",
    "execute",
    "render",
    "make",
    "Made",
    "check_out",
    "workshop",
    "NotebookError",
    "NotebookFailed",
    "OutputError",
]
