/* The wanted files of an archive into a folder. What is written is named by the caller, never by the archive. */
#ifndef QE_FETCH_UNPACK_H
#define QE_FETCH_UNPACK_H

#include "tools/fetch/digest.h"
#include "tools/fetch/remote.h"

enum { QE_UNPACK_TEXT = 1 << 16, QE_UNPACK_MEMBERS = 1000, QE_UNPACK_REST = 1 << 24 };

/* Unpack archive->files from the file `path` into `folder`, which must hold none of them, and sync them. digests
 * [file_count] are set; "" for a text that the archive lacks.
 * QE_FORMAT, and nothing outside `folder` was touched: a member with an absolute name, with ".." in it, or that is a
 * link or device, whether it is wanted or not; a wanted file that is missing, occurs twice or has another size; more
 * than QE_UNPACK_MEMBERS members, or more than QE_UNPACK_REST bytes of members that are not wanted; a damaged archive.
 */
QE_CHECKED qe_status qe_archive_unpack(const qe_remote_archive *archive, const char *path, const char *folder,
                                       bool (*stop)(void), char (*digests)[QE_DIGEST_TEXT]);

/* The same from memory; for tests and fuzzing. */
QE_CHECKED qe_status qe_archive_unpack_bytes(const qe_remote_archive *archive, const void *data, size_t bytes,
                                             const char *folder, char (*digests)[QE_DIGEST_TEXT]);

#endif
