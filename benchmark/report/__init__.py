"""Records as a page, figures and tables that a person wants to read."""

from spurious_imagenet.benchmark.report._report import Report, write_report

__all__ = ["Report", "write_report"]
