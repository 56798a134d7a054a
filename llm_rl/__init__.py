"""Language-model policies and their post-training. Importing this is light; torch and transformers come when used."""
