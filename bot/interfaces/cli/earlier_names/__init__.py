"""Entry points that earlier versions run when they update to this one; the wheel has them under their old names."""
