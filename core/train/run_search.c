/* Runs of methods that have a loop of their own: their networks. */
#include "core/train/run_parts.h"

#include "core/base/alloc.h"
#include "core/dispatch/network_file.h"

qe_status qe_run_save_network(const qe_run *run, const qe_network *network, const char *file) {
  char *path;
  QE_TRY(qe_run_path(run, file, &path));
  qe_status status = path ? qe_network_write(network, path) : QE_OK;
  qe_free(path);
  return status;
}
