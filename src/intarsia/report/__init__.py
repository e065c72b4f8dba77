"""One run's report: metrics and examples -> one HTML file."""

from .data import ReportData, versions
from .page import page, write_report

__all__ = ["ReportData", "page", "versions", "write_report"]
