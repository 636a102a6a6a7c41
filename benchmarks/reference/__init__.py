"""What tacit is measured against: plain loops written by hand, on torch and NumPy alone."""
