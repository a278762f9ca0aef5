/*
 * Another library with a hook for the log, for tests/log_hooks.rs: it writes down what it is shown of each
 * entry, one line each, calls whose hook was there before, and writes down what became of it.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/elog.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static char *file = NULL;
static emit_log_hook_type next = NULL;

static const char *
shown(const char *text)
{
	return text ? text : "";
}

static void
note(const char *when, const ErrorData *entry)
{
	static char line[65536];
	int			length;
	int			fd;

	length = snprintf(line, sizeof(line), "%d|%s|%s|%s|%s|%s", MyProcPid, when, shown(entry->message),
					  shown(entry->detail), shown(entry->detail_log),
					  entry->hide_stmt ? "" : shown(debug_query_string));
	length = Min(length, (int) sizeof(line) - 2);
	for (int at = 0; at < length; at++)
		if (line[at] == '\n')
			line[at] = ' ';
	line[length++] = '\n';
	fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0 || write(fd, line, length) != length || close(fd) != 0)
		abort();
}

static void
on_entry(ErrorData *entry)
{
	note("before", entry);
	if (next)
		next(entry);
	note("after", entry);
}

void
_PG_init(void)
{
	DefineCustomStringVariable("chain.file", "Where to write what is shown.", NULL, &file, "/dev/null",
							   PGC_POSTMASTER, 0, NULL, NULL, NULL);
	next = emit_log_hook;
	emit_log_hook = on_entry;
}
