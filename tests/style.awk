# Layout rules that every version of every tool agrees on.  Prints each breach; exits 1 if any.
function bad(why) { printf "%s:%d: %s\n", FILENAME, FNR, why; nbad++ }
FNR == 1 { inblock = 0 }
{
	line = $0
	width = 0
	n = split(line, ch, "")
	for (i = 1; i <= n; i++)
		width = ch[i] == "\t" ? width + 8 - width % 8 : width + 1
}
width > 100 { bad("longer than 100 columns") }
/[ \t]$/ { bad("blank at the end of the line") }
/^        / { bad("indented with blanks, not a tab") }
/^typedef struct/ { bad("typedef of a struct") }
FNR == 701 && FILENAME !~ /^tests\// { bad("file longer than 700 lines") }
END { exit nbad > 0 }
