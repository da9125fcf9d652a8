"""Files and Hub sets become named columns of strings, exactly as spelled, or are refused with file, line and mend."""
