package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
)

// helper is the rest of a file that is added to the package. In a folder that
// MUTATE_REACHED names it makes a file for each fault whose place is reached.
const helper = `

import (
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

var (
	mutateNow, mutateErr = strconv.Atoi(os.Getenv("MUTATE"))
	mutateReached        = os.Getenv("MUTATE_REACHED")
	mutateSeen           [1 << 16]atomic.Bool
)

func mutate(fault int) bool {
	if mutateReached != "" && !mutateSeen[fault].Swap(true) {
		_ = os.WriteFile(filepath.Join(mutateReached, strconv.Itoa(fault)), nil, 0o644)
	}
	return fault == mutateNow && mutateErr == nil
}
`

// A mutator writes Go files with faults in them.
type mutator struct {
	pkg    string
	faults []string // file:line:column and what is wrong there
	fset   *token.FileSet
	src    []byte
}

// file returns the text of a file with faults in its functions.
func (m *mutator) file(path string) ([]byte, error) {
	var err error
	if m.src, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	m.fset = token.NewFileSet()
	f, err := parser.ParseFile(m.fset, path, m.src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	m.pkg = f.Name.Name
	var out bytes.Buffer
	at := 0
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			out.Write(m.src[at:m.offset(fn.Body.Pos())])
			out.WriteString(m.text(fn.Body))
			at = m.offset(fn.Body.End())
		}
	}
	out.Write(m.src[at:])
	return out.Bytes(), nil
}

func (m *mutator) offset(p token.Pos) int { return m.fset.Position(p).Offset }

// text returns the text of a node with faults in the nodes below it.
func (m *mutator) text(n ast.Node) string {
	var out bytes.Buffer
	at := m.offset(n.Pos())
	header := map[ast.Node]bool{} // parts of statements where Go takes no if
	ast.Inspect(n, func(c ast.Node) bool {
		if c == nil || c == n {
			return true
		}
		switch c := c.(type) {
		case *ast.GenDecl:
			return c.Tok != token.CONST
		case *ast.ForStmt:
			header[c.Init], header[c.Post] = true, true
		case *ast.IfStmt:
			header[c.Init] = true
		case *ast.SwitchStmt:
			header[c.Init] = true
		case *ast.TypeSwitchStmt:
			header[c.Init], header[c.Assign] = true, true
		case *ast.CommClause:
			header[c.Comm] = true
		}
		if header[c] {
			return true
		}
		faulty, ok := m.faulty(c)
		if ok {
			out.Write(m.src[at:m.offset(c.Pos())])
			out.WriteString(faulty)
			at = m.offset(c.End())
		}
		return !ok
	})
	out.Write(m.src[at:m.offset(n.End())])
	return out.String()
}

// faulty returns the text of a node with faults in itself, and below. ok is false if the
// node itself can have none.
func (m *mutator) faulty(n ast.Node) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		return m.binary(n)
	case *ast.AssignStmt:
		ok = n.Tok != token.ASSIGN && n.Tok != token.DEFINE
	case *ast.IncDecStmt, *ast.ExprStmt:
		ok = true
	}
	if !ok {
		return "", false
	}
	return fmt.Sprintf("if !%s { %s }", m.fault(n, "left out"), m.text(n)), true
}

// compared are the operators that replace an operator.
var compared = map[token.Token][]string{
	token.EQL: {"!="}, token.NEQ: {"=="},
	token.LSS: {"<=", ">="}, token.LEQ: {"<", ">"}, token.GTR: {">=", "<="}, token.GEQ: {">", "<"},
}

func (m *mutator) binary(e *ast.BinaryExpr) (text string, ok bool) {
	x, y := "", ""
	switch {
	case e.Op == token.LAND || e.Op == token.LOR:
		x, y = m.operand(e.X), m.operand(e.Y)
		text = fmt.Sprintf("case %s: return %s; case %s: return %s",
			m.fault(e, "only the left of "+e.Op.String()), x, m.fault(e, "only the right of "+e.Op.String()), y)
	case compared[e.Op] != nil:
		x, y = m.operand(e.X), m.operand(e.Y)
		for _, op := range compared[e.Op] {
			text += fmt.Sprintf("case %s: return %s %s %s;", m.fault(e, op+" for "+e.Op.String()), x, op, y)
		}
	default:
		return "", false
	}
	return fmt.Sprintf("func() bool { switch { %s }; return %s %s %s }()", text, x, e.Op, y), true
}

// operand returns the text of an expression with faults in itself and below.
func (m *mutator) operand(e ast.Expr) string {
	if text, ok := m.faulty(e); ok {
		return text
	}
	return m.text(e)
}

// fault notes a fault and returns the condition under which it is there.
func (m *mutator) fault(n ast.Node, what string) string {
	p := m.fset.Position(n.Pos())
	m.faults = append(m.faults, fmt.Sprintf("%s:%d:%d: %s", filepath.Base(p.Filename), p.Line, p.Column, what))
	return fmt.Sprintf("mutate(%d)", len(m.faults)-1)
}
