"""Tables and figures of a whole loop in one self-contained HTML file, with every figure again in `report.json`."""

from onereward.report.content import ANSWERS, Report, ReportInputs, TimeRow, read_report
from onereward.report.page import write_report, write_table
from onereward.report.terminal import print_summary

__all__ = [
    "ANSWERS",
    "Report",
    "ReportInputs",
    "TimeRow",
    "print_summary",
    "read_report",
    "write_report",
    "write_table",
]
