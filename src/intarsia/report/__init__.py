"""One run's report: metrics and examples -> one HTML file."""

from .data import GenerativeReportData, ObjectReportData, ReportData, read_samples, versions
from .generative import generative_page, write_generative_report
from .objects import object_page, write_object_report
from .page import page, write_report

__all__ = [
    "GenerativeReportData",
    "ObjectReportData",
    "ReportData",
    "generative_page",
    "object_page",
    "page",
    "read_samples",
    "versions",
    "write_generative_report",
    "write_object_report",
    "write_report",
]
