"""A problem that names a failed check is read back, and no other is taken for one."""

from worker.calls.check_words import archived_although, failed_check


def test_the_check_that_a_problem_names_is_read_back_and_no_other_problem_is_one():
    assert failed_check(archived_although("duration", "2.0 s, announced were 9.0 s")) == "duration"
    assert failed_check("the provider says that the duration failed: 500") is None
    assert failed_check(None) is None
