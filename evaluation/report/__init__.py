"""What an evaluation says: tables, pictures, a page, and lines on a terminal."""

from evaluation.report.files import say, show, write

__all__ = ["say", "show", "write"]
