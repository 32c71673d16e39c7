"""Features of SAEs at a store's rows: extracted once to a sealed file, and read back."""
