"""A hook of mkdocs: pages keep their paths in the repository, so relative links work on the site and on a code host."""

from pathlib import Path

from mkdocs.structure.files import File, Files

PAGES = ("README.md", "docs/*.md", "docs/*.png", "egs/*/README.md", "benchmarks/README.md")


def on_files(files: Files, config) -> Files:
    """The files of the site: all ``PAGES`` of the repository, and those of the theme."""
    root = Path(config.config_file_path).parent
    docs = {file.src_uri for file in files if file.src_dir == config.docs_dir}
    paths = sorted(path.relative_to(root).as_posix() for pattern in PAGES for path in root.glob(pattern))
    pages = [File(path, str(root), config.site_dir, config.use_directory_urls) for path in paths]
    return Files([*pages, *(file for file in files if file.src_uri not in docs)])
