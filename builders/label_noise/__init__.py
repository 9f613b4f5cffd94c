"""Images whose label may be wrong, and classes whose spurious features collide (SR section 5)."""
