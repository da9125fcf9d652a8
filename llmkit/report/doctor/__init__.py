"""Checks of `llmkit doctor`, a file for each part; `check.run_doctor_checks` yields every finding."""
