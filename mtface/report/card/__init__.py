"""A model card written from a run, as Markdown with Hugging Face's front matter: `mtface card`."""
