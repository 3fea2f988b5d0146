"""The formats by name."""

from onereward.readers.editreward import EDITREWARD
from onereward.readers.hpdv2 import HPDV2
from onereward.readers.imagereward import IMAGEREWARD
from onereward.readers.layouts import Format
from onereward.readers.pickapic import PICKAPIC
from onereward.readers.prefpaint import PREFPAINT
from onereward.readers.table import TABLE

FORMATS: dict[str, Format] = {form.name: form for form in (EDITREWARD, IMAGEREWARD, HPDV2, PICKAPIC, PREFPAINT, TABLE)}
