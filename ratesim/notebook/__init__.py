"""Notebooks: which there are, executed with parameters as data, and rendered to one page."""

from ratesim.notebook.build import BuiltPage, build
from ratesim.notebook.catalogue import NotebookError, Parameter, Value, find, given, notebooks, parameters_of, questions
from ratesim.notebook.execute import NotebookExecutionError, execute
from ratesim.notebook.output_dir import OutputError, ensure_writable, publish, staging_directory
from ratesim.notebook.render import render

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
    "build",
    "BuiltPage",
    "ensure_writable",
    "staging_directory",
    "publish",
    "NotebookError",
    "NotebookExecutionError",
    "OutputError",
]
