"""Small programs that show how bots are written. Each file stands alone and says how to run it."""
