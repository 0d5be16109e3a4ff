#include "tools/command.h"
qe_status qe_cmd_inspect(qe_options *options) {
  (void)options;
  return QE_OK;
}
