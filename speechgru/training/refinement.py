"""Refining a model for the same words with more recordings: briefly, and never for the worse."""

from speechgru.corpora import open_corpus
from speechgru.model.network import ModelConfig
from speechgru.modelfile.bundled import trained_model
from speechgru.modelfile.safetensors import read_header
from speechgru.training.data import task_of, unknown_words
from speechgru.training.recipe import Recipe, parse_recipe
from speechgru.training.warm_start import OF_HEADS

#: Least share of running speech, where there is any. With a fifth, words soon fire in other speech.
_TALK_SHARE = 0.35


def refined(recipe: Recipe) -> Recipe:
    """The recipe for training on with the model that it begins with, if words and heads are its.

    It takes `training.refine_steps`, at an eighth of the learning rate, in streams from the first
    step and with more running speech, and keeps the weights it begins with unless better ones are
    found between these and what it learns. Otherwise, or where `refine_steps` is 0, the recipe
    stays as it is.

    Raises:
        DataError: the model's file is not a model, or the data is invalid.
    """
    training = recipe.training
    if not (training.begin_with and training.refine_steps and recipe.data.directory):
        return recipe
    header = read_header(trained_model(training.begin_with))
    task = task_of(recipe, open_corpus(recipe.data.directory))
    separate = recipe.sampling.separate_unknown_words
    others = unknown_words(task) if separate else ()
    table = recipe.model_dump(mode="json")
    same_words = tuple(header["labels"]) == task.labels
    same_words &= tuple(header.get("unknown_words", ())) == others
    trained = ModelConfig.parse(header["model"], training.begin_with).model_dump(mode="json")
    if not same_words or any(table["model"][key] != trained[key] for key in OF_HEADS):
        return recipe
    table["training"] |= {"keep_start": True, "learning_rate": training.learning_rate / 8}
    table["stream"]["begin_at"] = 0.0
    if recipe.stream.talk_share:
        table["stream"]["talk_share"] = max(recipe.stream.talk_share, _TALK_SHARE)
    return parse_recipe(table, "recipe")
