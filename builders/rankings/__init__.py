"""Images sorted within their class by spuriosity (SR section 4.1)."""
