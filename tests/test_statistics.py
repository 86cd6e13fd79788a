"""Intervals over folds and significance tests, against other implementations and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mirembed.errors import EvaluationError
from mirembed.statistics import cohens_d, cohens_dz, corrected_paired_t_test, hedges_g, holm, mcnemar_test, welch_t_test
from mirembed.statistics.intervals import Interval, nadeau_bengio_interval

# Two ratings of ten raters: the worked example of Lakens (2013), doi 10.3389/fpsyg.2013.00863, table 1.
FILM_A = np.array([9.0, 7, 8, 9, 8, 9, 9, 10, 9, 9])
FILM_B = np.array([9.0, 6, 7, 8, 7, 9, 8, 8, 8, 7])

score_samples = arrays(np.float64, st.integers(2, 20), elements=st.integers(0, 1000)).map(lambda steps: steps / 1000)
p_values = arrays(np.float64, st.integers(0, 12), elements=st.floats(0, 1))


def test_the_interval_worked_by_hand():
    # mean 0.7, s^2 = 0.01, variance (1/5 + 20/80) * 0.01, t = 2.776445 at 4 degrees of freedom
    interval = nadeau_bengio_interval([0.6, 0.6, 0.7, 0.8, 0.8], n_train=80, n_test=20)
    assert interval.mean == pytest.approx(0.7)
    assert interval.high - interval.mean == pytest.approx(2.776445 * np.sqrt(0.45 * 0.01), rel=1e-6)
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)


@given(scores=arrays(np.float64, st.integers(2, 20), elements=st.floats(0, 1)))
def test_with_a_tiny_test_part_the_interval_is_students(scores):
    assume(np.ptp(scores) > 1e-3)
    interval = nadeau_bengio_interval(scores, n_train=1e12, n_test=1)
    low, high = scipy.stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-6)


@given(scores=arrays(np.float64, st.integers(2, 20), elements=st.floats(-1, 1)))
def test_more_confidence_needs_a_wider_interval(scores):
    assume(np.ptp(scores) > 1e-3)
    narrow = nadeau_bengio_interval(scores, 90, 10, confidence=0.9)
    wide = nadeau_bengio_interval(scores, 90, 10, confidence=0.99)
    assert wide.low < narrow.low < narrow.mean == wide.mean < narrow.high < wide.high


def test_equal_scores_have_an_interval_of_zero_width():
    assert nadeau_bengio_interval([0.5, 0.5, 0.5], 90, 10) == Interval(0.5, 0.5, 0.5)


def test_a_single_score_has_no_interval():
    assert nadeau_bengio_interval([0.5], 90, 10) == Interval(0.5, None, None)


@pytest.mark.parametrize("scores", [[], [0.5, np.nan], [[0.5, 0.6]]])
def test_scores_that_are_not_finite_numbers_are_an_error(scores):
    with pytest.raises(EvaluationError, match="finite number"):
        nadeau_bengio_interval(scores, 90, 10)


@pytest.mark.parametrize("sizes", [(0, 10), (90, 0)])
def test_an_empty_part_has_no_interval(sizes):
    with pytest.raises(ValueError, match="out of range"):
        nadeau_bengio_interval([0.5, 0.6], *sizes)


def test_an_interval_is_cut_to_the_range_of_its_metric_and_its_mean_is_kept():
    assert Interval(0.9, 0.7, 1.1).within(0, 1) == Interval(0.9, 0.7, 1)
    assert Interval(-0.1, -0.4, 0.2).within(-np.inf, 1) == Interval(-0.1, -0.4, 0.2)
    assert Interval(0.9, None, None).within(0, 1) == Interval(0.9, None, None)


def test_what_is_undefined_in_every_fold_is_called_so():
    assert str(Interval(None, None, None)) == "undefined"
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_lies_between_0_and_1(confidence):
    with pytest.raises(ValueError, match="out of range"):
        nadeau_bengio_interval([0.5, 0.6], 90, 10, confidence)


def test_the_corrected_paired_t_test_worked_by_hand():
    # mean 0.03, s^2 = 0.00025, variance (1/5 + 20/80) s^2, so t^2 = 8; with 4 degrees of freedom
    # p = 1 - sin(a) (1 + cos(a)^2 / 2), where tan(a)^2 = t^2 / 4: Abramowitz & Stegun 26.7.4
    tested = corrected_paired_t_test([0.01, 0.02, 0.03, 0.04, 0.05], n_train=80, n_test=20)
    assert tested.statistic == pytest.approx(np.sqrt(8))
    assert tested.df == 4
    assert tested.p == pytest.approx(1 - np.sqrt(2 / 3) * (1 + 1 / 6))
    assert tested.difference == nadeau_bengio_interval([0.01, 0.02, 0.03, 0.04, 0.05], n_train=80, n_test=20)


@given(score_samples)
def test_with_a_tiny_test_part_the_corrected_test_is_students(differences):
    assume(np.ptp(differences) > 1e-3)
    tested = corrected_paired_t_test(differences, n_train=1e12, n_test=1)
    expected = scipy.stats.ttest_1samp(differences, 0)
    assert (tested.statistic, tested.p) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-6)


@given(score_samples, st.sampled_from([0.9, 0.95, 0.99]))
def test_a_difference_is_significant_exactly_when_its_interval_excludes_0(differences, confidence):
    differences = differences - 0.3
    assume(np.ptp(differences) > 1e-3)
    tested = corrected_paired_t_test(differences, 90, 10, confidence)
    assume(abs(tested.p - (1 - confidence)) > 1e-9)
    assert (tested.p < 1 - confidence) == (not tested.difference.low <= 0 <= tested.difference.high)


@given(score_samples)
def test_swapping_the_approaches_changes_only_signs(differences):
    one, other = (corrected_paired_t_test(sign * differences, 90, 10) for sign in (1, -1))
    assert one.statistic == -other.statistic
    assert one.p == other.p
    assert (one.difference.low, one.difference.high) == (-other.difference.high, -other.difference.low)


def test_a_larger_test_share_raises_p():
    differences = [0.01, 0.03, 0.02, 0.04, 0.01]
    tests = [corrected_paired_t_test(differences, n_train, 100 - n_train) for n_train in (90, 80, 50)]
    assert tests[0].p < tests[1].p < tests[2].p


def test_no_difference_in_any_fold_has_a_p_of_1():
    tested = corrected_paired_t_test([0.0, 0.0, 0.0], 90, 10)
    assert (tested.statistic, tested.p, tested.effect) == (0, 1, 0)
    assert tested.difference == Interval(0, 0, 0)


def test_the_same_difference_in_all_folds_has_an_infinite_t_and_a_p_of_0():
    differences = np.array([0.3, 0.5, 0.9]) - np.array([0.2, 0.4, 0.8])  # 0.1 up to rounding
    tested = corrected_paired_t_test(-differences, 90, 10)
    assert (tested.statistic, tested.p, tested.effect) == (-np.inf, 0, -np.inf)
    assert tested.difference.low == tested.difference.high == pytest.approx(-0.1)


@pytest.mark.parametrize("differences", [[], [0.1], [0.1, np.nan], [[0.1, 0.2]]])
def test_a_paired_test_needs_two_folds(differences):
    with pytest.raises(EvaluationError, match="finite number"):
        corrected_paired_t_test(differences, 90, 10)


@given(score_samples, score_samples, st.sampled_from([0.9, 0.95]))
def test_welchs_test_is_that_of_scipy(a, b, confidence):
    assume(np.ptp(a) and np.ptp(b))
    tested = welch_t_test(a, b, confidence)
    expected = scipy.stats.ttest_ind(a, b, equal_var=False)
    interval = expected.confidence_interval(confidence)
    assert (tested.statistic, tested.df, tested.p) == pytest.approx(
        (expected.statistic, expected.df, expected.pvalue), rel=1e-9, abs=1e-12
    )
    assert (tested.difference.low, tested.difference.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_welchs_test_of_scores_that_do_not_vary():
    assert welch_t_test([0.3, 0.1 + 0.2], [0.3, 0.3, 0.3]).p == 1
    different = welch_t_test([0.4, 0.4], [0.3, 0.3, 0.3])
    assert (different.statistic, different.df, different.p) == (np.inf, 3, 0)
    one_varies = welch_t_test([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])
    assert one_varies.df == pytest.approx(2)
    assert one_varies.statistic == pytest.approx(0.3 / np.sqrt(0.01 / 3))


@pytest.mark.parametrize("samples", [([0.5], [0.5, 0.6]), ([0.5, 0.6], [0.5]), ([0.5, np.inf], [0.5, 0.6])])
def test_welchs_test_needs_two_finite_scores_on_either_side(samples):
    with pytest.raises(EvaluationError, match="finite number"):
        welch_t_test(*samples)


def test_effect_sizes_of_a_published_example():
    assert cohens_d(FILM_A, FILM_B) == pytest.approx(1.13, abs=0.005)
    assert cohens_dz(FILM_A - FILM_B) == pytest.approx(1.50, abs=0.005)
    assert hedges_g(cohens_d(FILM_A, FILM_B), 18) == pytest.approx(1.08, abs=0.005)
    assert welch_t_test(FILM_A, FILM_B).effect == hedges_g(cohens_d(FILM_A, FILM_B), 18)
    assert corrected_paired_t_test(FILM_A - FILM_B, 90, 10).effect == hedges_g(cohens_dz(FILM_A - FILM_B), 9)


def test_effect_sizes_of_scores_that_do_not_vary():
    assert cohens_d([0.5, 0.5], [0.5, 0.5]) == cohens_dz([0.0, 0.0]) == 0
    assert cohens_d([0.6, 0.6], [0.5, 0.5]) == cohens_dz([0.1, 0.1]) == np.inf
    assert cohens_dz([-0.1, -0.1]) == -np.inf


@pytest.mark.parametrize(("df", "factor"), [(2, 1 / np.sqrt(np.pi)), (4, np.sqrt(2 / np.pi)), (100, 1 - 3 / 399)])
def test_the_correction_of_an_effect_size(df, factor):
    # Gamma(df/2) / (sqrt(df/2) Gamma((df-1)/2)) in closed form, and Hedges' approximation for many
    assert hedges_g(2.0, df) == pytest.approx(2 * factor, rel=1e-5)


def test_two_folds_have_no_effect_size():
    assert corrected_paired_t_test([0.1, 0.2], 50, 50).effect is None
    with pytest.raises(ValueError, match="df is 1"):
        hedges_g(0.5, 1)


def test_mcnemars_exact_test_worked_by_hand():
    # of 6 tracks, at most 1 or at least 5 on one side: 2 (1 + 6) / 2^6
    assert mcnemar_test(1, 5) == mcnemar_test(5, 1) == pytest.approx(14 / 64)
    assert mcnemar_test(3, 3) == 1
    assert mcnemar_test(0, 0) == 1


def test_holms_correction_of_a_published_example():
    # The example of the article "Holm-Bonferroni method" in Wikipedia.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(p_values)
def test_holms_p_values_keep_their_order_and_lie_between_the_raw_ones_and_bonferronis(raw):
    adjusted = holm(raw)
    assert ((raw <= adjusted) & (adjusted <= np.minimum(len(raw) * raw, 1))).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()


@given(p_values, st.randoms(use_true_random=False))
def test_holms_correction_does_not_depend_on_the_order_of_the_tests(raw, random):
    order = random.sample(range(len(raw)), len(raw))
    np.testing.assert_array_equal(holm(raw[order]), holm(raw)[order])


@given(p_values, st.floats(0.001, 0.5))
def test_holms_correction_rejects_what_the_sequential_procedure_rejects(raw, level):
    rejected = set()
    for step, index in enumerate(np.argsort(raw, kind="stable")):
        if (len(raw) - step) * raw[index] >= level:
            break
        rejected.add(int(index))
    assert set(np.flatnonzero(holm(raw) < level).tolist()) == rejected


@pytest.mark.parametrize("raw", [[0.5, np.nan], [1.1], [-0.1], [[0.5]]])
def test_p_values_are_numbers_from_0_to_1(raw):
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm(raw)
