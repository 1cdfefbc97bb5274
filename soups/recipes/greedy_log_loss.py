"""The greedy soup on log-loss: models join one by one, each only if the soup's log-loss does not rise."""

from soups.recipes.greedy import AcceptanceRule, grow_soup
from soups.recipes.shared.acceptance import LossAtMost
from soups.recipes.shared.pool import Judge, OnDecision, Pool, Soup


def greedy_log_loss(pool: Pool, judge: Judge, *, on_decision: OnDecision | None = None) -> Soup:
    """Algorithm 1 of Wortsman et al. 2022, arXiv:2203.05482, "greedy soup", with acceptance by log-loss.

    The order is that of `greedy`: falling validation score, ties by lower log-loss, then name; the score stays the
    chosen metric. But a candidate joins for good if the log-loss of the mean does not rise, whatever the score: a
    log-loss changes with every image, while few accuracies are possible on a small validation set.

    Early stopping, parallel judging, budget, record, memory and the final state's bits are as in `greedy`.

    Args:
        pool: the ingredients, in any order.
        judge: judges each candidate soup; must compute the log-loss.
        on_decision: called with each decision at once.

    Raises:
        DataError: an ingredient does not fit the first, or holds NaN; names the ingredient and the tensor.
    """
    rule = AcceptanceRule(lambda incumbent: LossAtMost(incumbent.log_loss), "raised its log-loss")
    return grow_soup("greedy_log_loss", pool, judge, on_decision, rule, {})
