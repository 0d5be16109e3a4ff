/* qevo-gpu data: get data sets, say what is in one, list them. */
#include "core/base/alloc.h"
#include "core/base/nearest.h"
#include "core/data/dataset.h"
#include "tools/command.h"
#include "tools/data_info.h"
#include "tools/data_progress.h"
#include "tools/fetch/get.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Ctrl-C: the first ends the work in order, the second at once ---- */

static volatile sig_atomic_t stops;

static void on_signal(int number) {
  (void)number;
  if (++stops > 1) _exit(130);
}

static bool stopped(void) {
  return stops > 0;
}

static void catch_signals(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  (void)signal(SIGPIPE, SIG_IGN); /* a server that goes away fails the transfer, not the program */
}

/* ---- names ---- */

static qe_status fail_name(const char *name) {
  size_t count;
  const qe_remote *sets = qe_remotes(&count);
  qe_nearest nearest = {.word = name};
  char known[256] = "";
  for (size_t at = 0; at < count; at++) {
    qe_nearest_offer(&nearest, sets[at].name);
    strncat(known, at ? ", " : "", sizeof known - strlen(known) - 1);
    strncat(known, sets[at].name, sizeof known - strlen(known) - 1);
  }
  const char *best = qe_nearest_name(&nearest);
  if (best) return qe_fail(QE_USAGE, "no data set '%s' can be downloaded; did you mean %s?", name, best);
  return qe_fail(QE_USAGE, "no data set '%s' can be downloaded; these can: %s", name, known);
}

/* The kind by which the folders of the set are looked for. */
static qe_dataset_kind kind_of(const qe_remote *set) {
  return (qe_dataset_kind){
      .name = set->name, .folder = set->folder, .marker = set->archives[0].files[0].name, .cure = "get it"};
}

/* Where the set lies (qe_free); NULL: nowhere. */
static qe_status find_set(const qe_remote *set, const char *data_dir, char **folder) {
  qe_dataset_kind kind = kind_of(set);
  qe_status status = qe_dataset_find(&kind, data_dir, folder);
  return status == QE_NOT_FOUND ? QE_OK : status;
}

/* ---- get ---- */

static void on_arrival(void *context, const char *file, int64_t arrived, int64_t bytes) {
  qe_data_progress_update(context, file, arrived, bytes);
}

static void on_note(void *context, const char *text) {
  qe_data_progress_note(context, text);
}

/* Contents that no checksum vouches for are at least read. */
static qe_status check_reading(const char *name, const char *data_dir) {
  qe_dataset *data = NULL;
  qe_status status = qe_dataset_open(name, data_dir, &data);
  qe_dataset_free(data);
  return status;
}

/* Whether a right set is there already; says so, and what is wrong with one that is not right. */
static qe_status is_there(const qe_remote *set, const char *data_dir, char **folder, bool *there) {
  qe_check found = QE_CHECK_SIZES;
  *there = false;
  QE_TRY(find_set(set, data_dir, folder));
  if (!*folder) return QE_OK;
  qe_status status = qe_get_check(set, *folder, stopped, &found);
  if (status == QE_OK && found == QE_CHECK_SIZES) status = check_reading(set->name, data_dir);
  *there = status == QE_OK;
  if (*there)
    fprintf(stderr, "%s is there: %s (%s)\n", set->name, *folder,
            found == QE_CHECK_SUMS ? "every file has its SHA-256"
                                   : "sizes are right, contents are not known to be; --force gets it again");
  else if (status == QE_NOT_FOUND || status == QE_FORMAT)
    fprintf(stderr, "%s is not whole: %s; getting it again\n", set->name, qe_message());
  else
    return status;
  return QE_OK;
}

/* The one address that options or the environment name, in `addresses` [2], and its text (qe_free) in *text; else none.
 */
static qe_status named_address(const qe_options *options, const char *set, const char **addresses, char **text) {
  const char *url = qe_option_text(options, "url"), *mirror = getenv("QEVO_DATA_MIRROR");
  *text = NULL;
  addresses[0] = addresses[1] = NULL;
  if (url && *url)
    addresses[0] = url;
  else if (mirror && *mirror) {
    *text = qe_format("%s%s%s", mirror, mirror[strlen(mirror) - 1] == '/' ? "" : "/", set);
    if (!*text) return QE_NO_MEMORY;
    addresses[0] = *text;
  }
  return QE_OK;
}

static qe_status fetch_set(const qe_options *options, const qe_remote *set, qe_data_progress *progress, char **folder) {
  const char *addresses[2];
  char *text, *place = NULL;
  QE_TRY(named_address(options, set->name, addresses, &text));
  qe_status status = qe_dataset_place(qe_option_text(options, "data-dir"), &place);
  if (status == QE_OK) {
    qe_get_request request = {
        .place = place,
        .addresses = addresses[0] ? addresses : NULL,
        .rules = {QE_DOWNLOAD_USUAL, .stop = stopped, .progress = on_arrival, .note = on_note, .context = progress}};
    status = qe_get(set, &request, folder);
    qe_data_progress_clear(progress);
  }
  qe_free(text);
  qe_free(place);
  return status;
}

static qe_status get_one(const qe_options *options, const char *name, qe_json *json) {
  qe_data_progress progress = {.file = stderr};
  const qe_remote *set = qe_remote_find(name);
  char *folder = NULL;
  bool there = false;
  if (!set) return fail_name(name);
  qe_status status = QE_OK;
  if (!qe_option_flag(options, "force")) status = is_there(set, qe_option_text(options, "data-dir"), &folder, &there);
  if (status == QE_OK && !there) {
    qe_free(folder);
    folder = NULL;
    if (qe_get_available())
      fprintf(stderr, "getting %s: %.1f MiB to download\n", name, (double)qe_remote_archive_bytes(set) / 1048576);
    status = fetch_set(options, set, &progress, &folder);
    if (status == QE_OK) fprintf(stderr, "%s is in %s; every file has its SHA-256\n", name, folder);
  }
  if (status == QE_OK) {
    qe_json_open_object(json, NULL);
    qe_json_text(json, "name", name);
    qe_json_text(json, "folder", folder);
    qe_json_bool(json, "downloaded", !there);
    qe_json_close(json);
  }
  qe_free(folder);
  return status;
}

/* A typing error in the third name should not show after two downloads. */
static qe_status check_names(const qe_options *options) {
  int count = qe_options_positionals(options);
  const char *url = qe_option_text(options, "url");
  for (int at = 1; at < count; at++)
    if (!qe_remote_find(qe_options_positional(options, at))) return fail_name(qe_options_positional(options, at));
  if (count > 2 && url && *url) return qe_fail(QE_USAGE, "--url names the files of one data set; give one name");
  return QE_OK;
}

static qe_status data_get(const qe_options *options) {
  qe_json json = {0};
  QE_TRY(check_names(options));
  catch_signals();
  qe_json_open_array(&json, NULL);
  qe_status status = QE_OK;
  for (int at = 1; at < qe_options_positionals(options) && status == QE_OK; at++)
    status = get_one(options, qe_options_positional(options, at), &json);
  qe_json_close(&json);
  if (status == QE_OK && qe_option_flag(options, "json")) return qe_print_json(&json);
  qe_json_drop(&json);
  return status;
}

/* ---- info ---- */

static qe_status data_info(const qe_options *options) {
  catch_signals();
  if (qe_options_positionals(options) > 2)
    return qe_fail(QE_USAGE, "one argument too many: %s", qe_options_positional(options, 2));
  const qe_data_info_options info = {.data_dir = qe_option_text(options, "data-dir"),
                                     .json = qe_option_flag(options, "json"),
                                     .check = qe_option_flag(options, "check"),
                                     .threads = (int)qe_option_int(options, "loader-threads"),
                                     .stop = stopped};
  return qe_data_info(qe_options_positional(options, 1), &info);
}

/* ---- list ---- */

static void list_row(const qe_dataset_kind *kind, const char *folder, qe_json *json, bool text) {
  const qe_remote *set = qe_remote_find(kind->name);
  const char *where = folder ? folder : kind->read_builtin ? "built in" : "";
  double mib = set ? (double)qe_remote_archive_bytes(set) / 1048576 : 0;
  char shape[48];
  snprintf(shape, sizeof shape, "%dx%dx%d", kind->height, kind->width, kind->channels);
  if (text) {
    printf("%-16s %7d  %-10s ", kind->name, kind->classes, shape);
    if (set)
      printf("%8.1f MiB  ", mib);
    else
      printf("%12s  ", "-");
    printf("%s\n", *where ? where : "not here");
    return;
  }
  qe_json_open_object(json, NULL);
  qe_json_text(json, "name", kind->name);
  qe_json_int(json, "classes", kind->classes);
  qe_json_text(json, "shape", shape);
  qe_json_bool(json, "downloadable", set != NULL);
  qe_json_text(json, "folder", folder);
  qe_json_bool(json, "built_in", kind->read_builtin != NULL);
  qe_json_close(json);
}

static qe_status data_list(const qe_options *options) {
  size_t count;
  const qe_dataset_kind *kinds = qe_dataset_kinds(&count);
  bool text = !qe_option_flag(options, "json");
  qe_json json = {0};
  if (qe_options_positionals(options) > 1)
    return qe_fail(QE_USAGE, "one argument too many: %s", qe_options_positional(options, 1));
  if (text) printf("%-16s %7s  %-10s %12s  %s\n", "data set", "classes", "shape", "download", "lies in");
  qe_json_open_array(&json, NULL);
  qe_status status = QE_OK;
  for (size_t at = 0; at < count && status == QE_OK; at++) {
    char *folder = NULL;
    if (kinds[at].folder) status = qe_dataset_find(&kinds[at], qe_option_text(options, "data-dir"), &folder);
    if (status == QE_NOT_FOUND) status = QE_OK;
    if (status == QE_OK) list_row(&kinds[at], folder, &json, text);
    qe_free(folder);
  }
  qe_json_close(&json);
  if (!text && status == QE_OK) return qe_print_json(&json);
  qe_json_drop(&json);
  if (text && status == QE_OK)
    puts("'qevo-gpu data get NAME' downloads one; 'qevo-gpu data info NAME' says what is in it");
  return status;
}

/* ---- the command ---- */

static const struct verb {
  const char *name;
  bool names; /* names of data sets follow */
  qe_status (*run)(const qe_options *options);
} verbs[] = {{"get", true, data_get}, {"info", true, data_info}, {"list", false, data_list}};
enum { VERBS = sizeof verbs / sizeof *verbs };

qe_status qe_cmd_data(qe_options *options) {
  const char *word = qe_options_positional(options, 0);
  qe_nearest nearest = {.word = word};
  for (size_t at = 0; at < VERBS; at++) {
    qe_nearest_offer(&nearest, verbs[at].name);
    if (strcmp(word, verbs[at].name) != 0) continue;
    if (verbs[at].names && qe_options_positionals(options) < 2)
      return qe_fail(QE_USAGE, "%s: of which data set? 'qevo-gpu data list' lists them", word);
    return verbs[at].run(options);
  }
  const char *best = qe_nearest_name(&nearest);
  if (best) return qe_fail(QE_USAGE, "%s: no such action; did you mean %s?", word, best);
  return qe_fail(QE_USAGE, "%s: no such action; there are get, info and list", word);
}
