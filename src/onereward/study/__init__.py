"""People rate outputs and compare editors: the user study of the appendix (Table 3, Fig. 6, Fig. 7)."""
