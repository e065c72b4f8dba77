"""One run's report: metrics and examples -> one HTML file."""

from .data import GenerativeReportData, ReportData, read_samples, versions
from .generative import generative_page, write_generative_report
from .page import page, write_report

__all__ = [
    "GenerativeReportData",
    "ReportData",
    "generative_page",
    "page",
    "read_samples",
    "versions",
    "write_generative_report",
    "write_report",
]
