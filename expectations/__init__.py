"""WHAT MUST HOLD: the suites of both gates. The only place that imports Great Expectations; no object of it leaves."""
