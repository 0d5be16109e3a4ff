/* Folders that hold runs, rather than being one: of pipelines and of searches. A file of their own tells them apart. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/train/pipeline.h"
#include "core/train/run_parts.h"
#include "core/train/search_folder.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { DESCRIPTION_LIMIT = 1 << 20 };

static const struct kind {
  const char *file, *name;
} kinds[] = {{QE_PIPELINE_FILE, "pipeline"}, {QE_SEARCH_FILE, "search"}};
enum { PIPELINE, SEARCH, KINDS };

static bool holds(const char *folder, int kind) {
  char path[PATH_MAX]; /* no longer one can be opened */
  return snprintf(path, sizeof path, "%s/%s", folder, kinds[kind].file) < PATH_MAX && qe_file_exists(path);
}

bool qe_pipeline_is(const char *folder) {
  return holds(folder, PIPELINE);
}

bool qe_search_is(const char *folder) {
  return holds(folder, SEARCH);
}

bool qe_run_is_whole(const qe_run *run) {
  return run->options.pipeline || run->options.search;
}

static int kind_of(const qe_run *run) {
  return run->options.search ? SEARCH : PIPELINE;
}

static const char *description(const qe_run *run) {
  return run->options.search ? run->options.search : run->options.pipeline;
}

/* Its trials are compared with one another: what they are of must stay. */
static qe_status check_search(const qe_run *run) {
  char *path, *was;
  QE_TRY(qe_run_path(run, QE_SEARCH_FILE, &path));
  qe_status status = qe_file_read(path, DESCRIPTION_LIMIT, &was, NULL);
  qe_free(path);
  if (status != QE_OK) return status;
  bool same = strcmp(was, run->options.search) == 0;
  qe_free(was);
  if (same) return QE_OK;
  return qe_fail(QE_USAGE,
                 "%s: the search there has other variables, objectives, searcher, population or seed: they must stay; "
                 "choose another --out",
                 run->options.folder);
}

static qe_status check_begun(const qe_run *run, int kind) {
  const char *folder = run->options.folder;
  char *config;
  QE_TRY(qe_run_path(run, "config.yaml", &config));
  bool begun = qe_file_exists(config);
  qe_free(config);
  return begun || !run->options.resume
             ? QE_OK
             : qe_fail(QE_NOT_FOUND, "%s has no %s to go on with; start without --resume", folder, kinds[kind].name);
}

qe_status qe_run_check_whole(qe_run *run) {
  const char *folder = run->options.folder;
  int kind = kind_of(run);
  bool has = false;
  QE_TRY(qe_run_has_checkpoint(run, &has));
  if (has || qe_file_exists(run->metrics))
    return qe_fail(QE_USAGE, "%s holds a run of one method, not a %s: choose another --out", folder, kinds[kind].name);
  for (int i = 0; i < KINDS; i++)
    if (i != kind && holds(folder, i))
      return qe_fail(QE_USAGE, "%s holds a %s, not a %s: choose another --out", folder, kinds[i].name,
                     kinds[kind].name);
  if (!holds(folder, kind)) return check_begun(run, kind);
  if (!run->options.resume)
    return qe_fail(QE_USAGE, "%s holds a %s already: add --resume to go on with it, or choose another --out", folder,
                   kinds[kind].name);
  return kind == SEARCH ? check_search(run) : qe_run_check_steps(run);
}

qe_status qe_run_refuse_whole(const qe_run *run) {
  const char *folder = run->options.folder;
  for (int i = 0; i < KINDS; i++)
    if (holds(folder, i))
      return qe_fail(QE_USAGE,
                     "%s holds a %s, this would be a run of one method: choose another --out, or go on with the "
                     "%s by 'train --resume --out %s'",
                     folder, kinds[i].name, kinds[i].name, folder);
  return QE_OK;
}

qe_status qe_run_open_whole(qe_run *run) {
  QE_TRY(qe_run_check_whole(run));
  QE_TRY(qe_run_keep_file(run, "config.yaml", run->options.config));
  return qe_run_keep_file(run, kinds[kind_of(run)].file, description(run));
}
