/* Every allocation of some work fails once. */
#ifndef QE_TESTS_FAILING_H
#define QE_TESTS_FAILING_H

#include "core/base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* `run` makes the same allocations each time, more than `least` of them. Whichever fails, it must be QE_NO_MEMORY; but
 * not for the last `harmless` ones, which it can do without. */
static inline void check_failing_allocations(qe_status (*run)(void), int64_t least, int64_t harmless) {
  int64_t before = qe_alloc_count();
  assert_int_equal(run(), QE_OK);
  int64_t needed = qe_alloc_count() - before;
  assert_true(needed > least);
  for (int64_t nth = 1; nth <= needed; nth++) {
    qe_alloc_fail_nth(nth);
    qe_status status = run();
    qe_alloc_fail_nth(0);
    if (status != (nth > needed - harmless ? QE_OK : QE_NO_MEMORY))
      fail_msg("allocation %lld failed, the status is %s", (long long)nth, qe_status_name(status));
  }
  assert_int_equal(run(), QE_OK);
}

#endif
