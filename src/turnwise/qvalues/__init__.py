"""What a Q-function is fitted to, whether it can be trusted, and how far one may go with it.

Pure functions on arrays: targets, calibration, the gate, the certificate, KL control, stop rules.
No model and no file.
"""
