"""Tables and figures of a whole loop in one self-contained HTML file, with every figure again in `report.json`."""

from onereward.report.content import Report, ReportInputs, TimeRow, read_report
from onereward.report.page import write_report
from onereward.report.terminal import print_summary

__all__ = ["Report", "ReportInputs", "TimeRow", "print_summary", "read_report", "write_report"]
