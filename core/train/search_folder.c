/* Folders of searches: the runs of their trials. */
#define _GNU_SOURCE /* nftw */
#include "core/train/search_folder.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/train/run_state.h"

#include <errno.h>
#include <ftw.h>
#include <string.h>
#include <unistd.h>

enum { MODEL_LIMIT = INT32_MAX, MOST_OPEN = 8 };

char *qe_trial_folder(const char *folder, int number) {
  return qe_format("%s/trial-%03d", folder, number);
}

static qe_status exists(const char *folder, const char *file, bool *is) {
  char *path = qe_path_join(folder, file);
  if (!path) return QE_NO_MEMORY;
  *is = qe_file_exists(path);
  qe_free(path);
  return QE_OK;
}

qe_status qe_trial_stand(const char *trial, bool *finished, bool *begun) {
  qe_run_stand stand;
  bool config, metrics;
  QE_TRY(qe_run_stand_read(trial, &stand));
  QE_TRY(exists(trial, "config.yaml", &config));
  QE_TRY(exists(trial, "metrics.jsonl", &metrics));
  *finished = stand.state == QE_RUN_FINISHED;
  *begun = config || metrics;
  return QE_OK;
}

/* A file that is not there is not copied. */
static qe_status copy_file(const char *from, const char *to, const char *name) {
  char *source = qe_path_join(from, name), *target = qe_path_join(to, name), *bytes = NULL;
  size_t size = 0;
  qe_status status = source && target ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK && qe_file_exists(source)) {
    status = qe_file_read(source, MODEL_LIMIT, &bytes, &size);
    if (status == QE_OK) status = qe_file_write(target, bytes, size);
  }
  qe_free(bytes);
  qe_free(target);
  qe_free(source);
  return status;
}

qe_status qe_trial_keep_best(const char *folder, const char *trial, const char *config) {
  char *path = qe_path_join(folder, "best.yaml");
  qe_status status = path ? copy_file(trial, folder, "best.safetensors") : QE_NO_MEMORY;
  if (status == QE_OK) status = copy_file(trial, folder, "last.safetensors");
  if (status == QE_OK) status = qe_file_write(path, config, strlen(config));
  qe_free(path);
  return status;
}

static int remove_model(const char *path, const struct stat *file, int type, struct FTW *at) {
  static const char ending[] = ".safetensors";
  size_t length = strlen(path), end = sizeof ending - 1;
  (void)file, (void)at;
  return type == FTW_F && length > end && strcmp(path + length - end, ending) == 0 ? unlink(path) : 0;
}

qe_status qe_trial_prune(const char *trial) {
  if (!qe_folder_exists(trial) || nftw(trial, remove_model, MOST_OPEN, FTW_PHYS) == 0) return QE_OK;
  return qe_file_fail(trial, "remove models from the folder", errno);
}
