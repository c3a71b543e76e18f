"""`speechgru data stats`: clips, speakers and hours of each word and split."""

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import print_json


@examples("speechgru data stats my-words/")
def stats(directory: options.Directory, json: options.Json = False) -> None:
    """Count clips, speakers and hours by word and split."""
    from speechgru.corpora import open_corpus
    from speechgru.corpora.stats import stats as corpus_stats

    corpus = open_corpus(directory)
    with progress_bar("reading headers") as progress:
        counted = corpus_stats(corpus, progress)
    if json:
        print_json(counted.as_dict())
    else:
        from speechgru.cli.tables.corpus import print_stats

        print_stats(counted)
