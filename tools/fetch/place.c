/* The folder in which a data set is being made, and the step that puts it in its place.
 *
 * The set is unpacked into a folder beside its place; renames put it there, so that it is there whole or not at all.
 * Between the two renames that replace a set it is not there; an interrupted replacement is taken back or finished by
 * the next run. Only files whose names the set has are ever removed. */
#include "tools/fetch/place.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "tools/fetch/get.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MIB (1024.0 * 1024.0)

/* ---- files of the set ---- */

static void remove_in(const char *folder, const char *name) {
  char *path = qe_path_join(folder, name);
  if (path) unlink(path);
  qe_free(path);
}

static bool is_of_set(const qe_remote *set, const char *name) {
  if (strcmp(name, QE_SUMS_FILE) == 0) return true;
  for (int at = 0; at < set->archive_count; at++)
    for (int file = 0; file < set->archives[at].file_count; file++)
      if (strcmp(name, set->archives[at].files[file].name) == 0) return true;
  return false;
}

void qe_place_clear(const qe_remote *set, const char *folder) {
  for (int at = 0; at < set->archive_count; at++)
    for (int file = 0; file < set->archives[at].file_count; file++)
      remove_in(folder, set->archives[at].files[file].name);
  remove_in(folder, QE_SUMS_FILE);
  rmdir(folder);
}

/* Move what is not the set's from one folder to another; what the other has already stays where it is. */
static void carry_over(const qe_remote *set, const char *from, const char *to) {
  DIR *folder = opendir(from);
  if (!folder) return;
  for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
    const char *name = entry->d_name;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || is_of_set(set, name)) continue;
    char *here = qe_path_join(from, name), *there = qe_path_join(to, name);
    if (here && there && !qe_file_exists(there)) (void)rename(here, there);
    qe_free(here);
    qe_free(there);
  }
  closedir(folder);
}

/* ---- opening ---- */

/* A link to a folder elsewhere, perhaps on a larger disk, is followed, and the work is done beside that folder. */
static char *target_of(const char *place, const char *folder) {
  char *target = qe_path_join(place, folder);
  if (!target || !qe_folder_exists(target)) return target;
  char *whole = realpath(target, NULL), *copy = whole ? qe_strdup(whole) : NULL;
  if (copy) {
    qe_free(target);
    target = copy;
  }
  free(whole);
  return target;
}

static qe_status make_names(qe_place *p, const char *place) {
  p->target = target_of(place, p->set->folder);
  p->work = p->target ? qe_format("%s.part", p->target) : NULL;
  if (!p->work) return QE_NO_MEMORY;
  p->fresh = qe_path_join(p->work, "unpacked");
  p->old = qe_path_join(p->work, "replaced");
  p->lock_path = qe_path_join(p->work, "lock");
  return p->fresh && p->old && p->lock_path ? QE_OK : QE_NO_MEMORY;
}

static qe_status fail_folder(const char *path, const char *what, int error) {
  return qe_fail(QE_IO, "%s: cannot %s: %s; choose another folder with --data-dir or QEVO_DATA_DIR", path, what,
                 strerror(error));
}

static qe_status make_work(const qe_place *p) {
  char *above = qe_path_folder(p->work);
  if (!above) return QE_NO_MEMORY;
  qe_status status = qe_make_folders(above);
  if (status != QE_OK) (void)qe_fail_within(status, "the data folder (--data-dir or QEVO_DATA_DIR choose it)");
  qe_free(above);
  if (status != QE_OK) return status == QE_NO_MEMORY ? status : QE_IO;
  if (mkdir(p->work, 0777) != 0 && errno != EEXIST) return fail_folder(p->work, "make the folder", errno);
  return QE_OK;
}

/* One process at a time. A lock on a file that its owner has meanwhile removed is worth nothing: once more. */
static qe_status take_lock(qe_place *p) {
  for (int attempt = 0; attempt < 10; attempt++) {
    struct stat held;
    QE_TRY(make_work(p));
    p->lock = open(p->lock_path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (p->lock < 0 && errno == ENOENT) continue;
    if (p->lock < 0) return fail_folder(p->lock_path, "make the file", errno);
    if (flock(p->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      close(p->lock);
      p->lock = -1;
      return qe_fail(QE_IO, "%s: another process is getting %s into this folder: wait until it is done", p->work,
                     p->set->name);
    } /* a file system without locks: go on without */
    if (fstat(p->lock, &held) == 0 && held.st_nlink > 0) return QE_OK;
    close(p->lock);
    p->lock = -1;
  }
  return qe_fail(QE_IO, "%s: cannot lock it: other processes are busy with it; try again", p->work);
}

/* What a run that was interrupted while it replaced a set has left. */
static void recover(const qe_place *p) {
  if (!qe_folder_exists(p->old)) return;
  if (!qe_file_exists(p->target) && rename(p->old, p->target) == 0) return;
  carry_over(p->set, p->old, p->target);
  qe_place_clear(p->set, p->old);
}

static qe_status check_room(const qe_place *p, int64_t needed) {
  struct statvfs disk;
  if (statvfs(p->work, &disk) != 0 || disk.f_blocks == 0) return QE_OK; /* writing will tell */
  for (int at = 0; at < p->set->archive_count; at++) {                  /* what is here need not come again */
    struct stat info;
    char *path = qe_path_join(p->work, p->set->archives[at].name);
    if (path && stat(path, &info) == 0) needed -= info.st_size;
    qe_free(path);
  }
  double room = (double)disk.f_bavail * (double)disk.f_frsize;
  if (room >= (double)needed) return QE_OK;
  return qe_fail(QE_IO,
                 "%s: %.0f MiB are needed on this disk while %s is unpacked, %.0f MiB are free; free some space, or "
                 "choose another folder with --data-dir or QEVO_DATA_DIR",
                 p->work, (double)needed / MIB, p->set->name, room / MIB);
}

qe_status qe_place_open(const qe_remote *set, const char *place, int64_t bytes_needed, qe_place *p) {
  *p = (qe_place){.set = set, .lock = -1};
  qe_status status = make_names(p, place);
  if (status == QE_OK && qe_file_exists(p->target) && !qe_folder_exists(p->target))
    status = qe_fail(QE_IO,
                     "%s: there is a file of this name where the data set's folder goes: move it away, or choose "
                     "another folder with --data-dir or QEVO_DATA_DIR",
                     p->target);
  if (status == QE_OK) status = take_lock(p);
  if (status == QE_OK) {
    recover(p);
    qe_place_clear(set, p->fresh);
    status = check_room(p, bytes_needed);
  }
  if (status == QE_OK && mkdir(p->fresh, 0777) != 0 && errno != EEXIST)
    status = fail_folder(p->fresh, "make the folder", errno);
  if (status != QE_OK) qe_place_close(p);
  return status;
}

/* ---- the end ---- */

qe_status qe_place_install(qe_place *p) {
  if (qe_folder_exists(p->target) && rename(p->target, p->old) != 0)
    return fail_folder(p->target, "move the old data set away", errno);
  if (rename(p->fresh, p->target) != 0) {
    int error = errno;
    (void)rename(p->old, p->target);
    return fail_folder(p->target, "move the data set there", error);
  }
  carry_over(p->set, p->old, p->target);
  qe_place_clear(p->set, p->old);
  char *above = qe_path_folder(p->target);
  if (!above) return QE_NO_MEMORY;
  qe_status status = qe_folder_sync(above);
  qe_free(above);
  return status;
}

void qe_place_close(qe_place *p) {
  if (p->lock >= 0 && p->work && p->lock_path) {
    for (int at = 0; at < p->set->archive_count; at++) { /* a part without a byte is of no worth */
      struct stat info;
      char *path = qe_path_join(p->work, p->set->archives[at].name);
      if (path && stat(path, &info) == 0 && info.st_size == 0) unlink(path);
      qe_free(path);
    }
    qe_place_clear(p->set, p->fresh);
    unlink(p->lock_path);
    rmdir(p->work);
    close(p->lock);
  }
  qe_free(p->target);
  qe_free(p->work);
  qe_free(p->fresh);
  qe_free(p->old);
  qe_free(p->lock_path);
  *p = (qe_place){.lock = -1};
}
