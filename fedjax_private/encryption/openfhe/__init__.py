"""The only code that imports OpenFHE, which makes keys and encryptions of zero."""
