#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"
#include "passphrase.h"

static void say(int tty, const char *text)
{
	if (write(tty, text, strlen(text)) < 0)
		log_debug("the terminal takes no text");
}

/* One line, which the terminal hands over as a whole. */
static ssize_t read_line(int tty, const char *prompt, uint8_t *pass)
{
	struct termios old, quiet;
	ssize_t n;

	if (tcgetattr(tty, &old) < 0)
		return -errno;
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	say(tty, prompt);
	if (tcsetattr(tty, TCSAFLUSH, &quiet) < 0)
		return -errno;
	n = read(tty, pass, SECRETFILE_PASS_MAX);
	if (n < 0)
		n = -errno;
	tcsetattr(tty, TCSAFLUSH, &old);
	say(tty, "\n");
	if (n > 0 && pass[n - 1] == '\n')
		n--;
	return n ? n : -EINVAL;
}

static ssize_t ask(bool twice, uint8_t *pass)
{
	AUTO_FD tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	uint8_t *again;
	ssize_t n, m;

	if (tty < 0) {
		log_err(errno, "no terminal to ask for the passphrase; use --passphrase-file");
		return -errno;
	}
	n = read_line(tty, "Passphrase of the backup: ", pass);
	if (n < 0 || !twice)
		return n;
	again = secmem_alloc(SECRETFILE_PASS_MAX);
	if (!again)
		return -ENOMEM;
	m = read_line(tty, "Once more: ", again);
	if (m != n || sodium_memcmp(pass, again, (size_t)n) != 0) {
		log_err(0, "the two are not the same");
		n = -EINVAL;
	}
	secmem_free(again);
	return n;
}

ssize_t passphrase_get(const char *path, bool twice, uint8_t *pass)
{
	return path ? secretfile_pass(path, pass) : ask(twice, pass);
}
