"""Powerset classes."""

import numpy as np
import pytest

from diarization.powerset import powerset, powerset_to_speakers


def test_classes_are_the_sets_of_at_most_two_of_three_speakers_by_size():
    """The order is {}, {0}, {1}, {2}, {0,1}, {0,2}, {1,2}."""
    sets = [set(np.flatnonzero(row).tolist()) for row in powerset()]
    assert sets == [set(), {0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}]


@pytest.mark.parametrize(("speakers", "at_most", "classes"), [(1, 1, 2), (2, 1, 3), (2, 2, 4), (4, 2, 11), (4, 4, 16)])
def test_other_powersets_have_the_sum_of_their_binomials(speakers, at_most, classes):
    """There are Σ C(speakers, k) classes, k from 0 to at_most, all different."""
    found = powerset(speakers, at_most)
    assert found.shape == (classes, speakers)
    assert len({tuple(row) for row in found.tolist()}) == classes
    assert found.sum(axis=1).max() == at_most


@pytest.mark.parametrize(("speakers", "at_most"), [(0, 0), (3, 4), (3, 0)])
def test_impossible_powersets_are_refused(speakers, at_most):
    """More speakers at once than there are, or none, is a ValueError."""
    with pytest.raises(ValueError, match="at_most"):
        powerset(speakers, at_most)


def test_the_likeliest_class_says_who_speaks():
    """The result is the speakers of the class with the highest log probability, whatever axes come before."""
    log_probs = np.full((2, 7, 7), -9.0)
    log_probs[:, np.arange(7), np.arange(7)] = -0.1
    speakers = powerset_to_speakers(log_probs)
    assert speakers.dtype == bool
    np.testing.assert_array_equal(speakers, np.stack([powerset(), powerset()]))


def test_a_wrong_number_of_classes_is_refused():
    """The last axis has to be as long as the powerset."""
    with pytest.raises(ValueError, match="expected 7 classes"):
        powerset_to_speakers(np.zeros((10, 3)))
